import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';

import { App } from './App.jsx';
import './styles.css';

const client = new QueryClient();
// Where the TanStack Query extension of browsers looks for it, and the tests.
window.__TANSTACK_QUERY_CLIENT__ = client;

createRoot(document.getElementById('root')).render(
  <StrictMode>
    <QueryClientProvider client={client}>
      <App />
    </QueryClientProvider>
  </StrictMode>,
);

import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

const gateway = `http://127.0.0.1:${process.env.PORT ?? 8080}`;

export default defineConfig({
  root: 'web',
  plugins: [react()],
  build: { outDir: '../dist', emptyOutDir: true },
  server: {
    host: '127.0.0.1',
    port: Number(process.env.DEV_PORT ?? 5173),
    strictPort: true,
    // In development pages come from Vite, with what you have just changed; everything else comes
    // through the gateway, as in production.
    proxy: {
      '/api': gateway,
      '/events': gateway,
      '/chat': { target: gateway, ws: true },
    },
  },
});

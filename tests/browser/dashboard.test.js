// examples/dashboard, end to end: a database, Express, the gateway, React with TanStack Query, a chat.

import { DashboardSite } from './support/dashboard-site.js';
import { claimAll } from './support/scenarios.js';

claimAll('the dashboard', (world) => DashboardSite.start(world));

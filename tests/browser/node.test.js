// examples/node: a backend on Node's `http` module, and a page without a framework.

import { NodeSite } from './support/node-site.js';
import { claimAll } from './support/scenarios.js';

claimAll('a page without React', (world) => NodeSite.start(world));

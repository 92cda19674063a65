import preact from '@preact/preset-vite'
import { defineConfig } from 'vite'

// The service's addresses, for `npm run dev` beside a running `topwork up`.
const api = [
  'architectures', 'audit', 'datasets', 'docs', 'finetune', 'healthz', 'jobs', 'keys', 'metrics',
  'models', 'openapi.json', 'predict', 'queue', 'readyz', 'session', 'uploads', 'usage', 'workers',
]

export default defineConfig({
  plugins: [preact()],
  // Into the Python package, where the api and the wheel look for it. Nothing is inlined as `data:`.
  build: { outDir: '../app/static', emptyOutDir: true, assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  server: { proxy: Object.fromEntries(api.map((noun) => [`/${noun}`, 'http://127.0.0.1:8000'])) },
})

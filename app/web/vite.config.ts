import react from '@vitejs/plugin-react'
import { defineConfig, loadEnv, type Plugin } from 'vite'

/** KaTeX brings each font in three formats; every browser that runs this page reads the first. */
const woff2Alone: Plugin = {
  name: 'woff2-alone',
  enforce: 'pre',
  transform: (css, file) => (file.includes('katex') && file.endsWith('.css') ? css.replace(/,url\([^)]*\.(?:woff|ttf)\) format\("\w+"\)/g, '') : null),
}

export default defineConfig(({ mode }) => {
  // The service to talk to while developing: BEDPLATE_SERVER=https://192.0.2.10 npm run dev
  const { BEDPLATE_SERVER = 'http://127.0.0.1:8000' } = loadEnv(mode, '.', 'BEDPLATE_')
  return {
    base: './',
    plugins: [react(), woff2Alone],
    // Nginx puts a fresh nonce in place of this word; README.md says how.
    html: { cspNonce: '__CSP_NONCE__' },
    build: {
      assetsInlineLimit: 0, // a data: URL would need an exception in the content security policy
      modulePreload: { polyfill: false },
    },
    server: { proxy: { '/v1': { target: BEDPLATE_SERVER, changeOrigin: true, secure: false } } },
  }
})

import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { App } from './app/App'
import { loadConfig } from './config/config'
import { I18nProvider } from './i18n/I18n'
import './main.css'

const root = document.getElementById('root')
if (!root) throw new Error('index.html has no #root')

// Vite writes this element; Nginx puts the nonce of this one answer in it.
const nonce = document.querySelector<HTMLMetaElement>('meta[property=csp-nonce]')?.nonce

const config = await loadConfig()
document.title = config.title
createRoot(root).render(
  <StrictMode>
    <I18nProvider>
      <App config={config} nonce={nonce} />
    </I18nProvider>
  </StrictMode>,
)

import { theme } from 'antd'
import antdEn from 'antd/locale/en_US'
import antdZh from 'antd/locale/zh_CN'
import { XProvider } from '@ant-design/x'
import xEn from '@ant-design/x/locale/en_US'
import xZh from '@ant-design/x/locale/zh_CN'
import { useMemo } from 'react'
import type { Config } from '../config/config'
import { useI18n } from '../i18n/I18n'
import styles from './App.module.css'
import { Page } from './Page'
import { useAppearance } from './useAppearance'

const LOCALES = { en: { ...xEn, ...antdEn }, zh: { ...xZh, ...antdZh } }

/** Everything that a component may need around it: language, theme, and the nonce for the styles made at run time. */
export function App({ config, nonce }: { config: Config; nonce: string | undefined }) {
  const { language } = useI18n()
  const appearance = useAppearance()
  const csp = useMemo(() => ({ nonce }), [nonce])
  return (
    <XProvider
      locale={LOCALES[language]}
      csp={csp}
      button={{ autoInsertSpace: false }}
      theme={{
        cssVar: { key: TOKENS },
        algorithm: appearance.dark ? theme.darkAlgorithm : theme.defaultAlgorithm,
        token: appearance.dark ? DARK : LIGHT,
      }}
    >
      <div className={`${styles.app} ${TOKENS}`}>
        <Page config={config} appearance={appearance} />
      </div>
    </XProvider>
  )
}

const TOKENS = 'bedplate-tokens' // the class that carries the theme's values for our own style sheets
const COMMON = { borderRadius: 8, fontSize: 15 }
// Every text has a contrast of at least 4.5 to 1, which Ant Design's own secondary greys have not.
const GREY = 'rgba(0, 0, 0, 0.6)'
const LIGHT = {
  ...COMMON,
  colorPrimary: '#0b6e5f',
  colorPrimaryBg: '#e2f1ed',
  colorLink: '#0b6e5f',
  colorTextTertiary: GREY,
  colorTextDescription: GREY,
  colorTextPlaceholder: GREY,
  colorErrorText: '#b3261e',
}
const DARK = {
  ...COMMON,
  colorPrimary: '#24897a',
  colorPrimaryBg: '#12372f',
  colorLink: '#4cc2ad',
  colorTextPlaceholder: 'rgba(255, 255, 255, 0.55)',
  colorErrorText: '#ff8a80',
}

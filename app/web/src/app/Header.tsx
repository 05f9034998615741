import {
  BulbOutlined, ControlOutlined, KeyOutlined, MenuOutlined, MoonOutlined, PlusOutlined, QuestionCircleOutlined, SunOutlined,
  TranslationOutlined,
} from '@ant-design/icons'
import { Button, Dropdown } from 'antd'
import type { ComponentProps, ReactNode } from 'react'
import { useI18n } from '../i18n/I18n'
import { ModelPicker } from '../models/ModelPicker'
import { IconButton } from '../ui/IconButton'
import styles from './Header.module.css'
import { APPEARANCES, type Appearance, type useAppearance } from './useAppearance'

const ICONS: Record<Appearance, ReactNode> = {
  system: <BulbOutlined aria-hidden />,
  light: <SunOutlined aria-hidden />,
  dark: <MoonOutlined aria-hidden />,
}

interface Props {
  appearance: ReturnType<typeof useAppearance>
  /** Shown where no list of conversations stands beside it. */
  title?: string | undefined
  models?: ComponentProps<typeof ModelPicker>
  /** The list of conversations, and whether it is shown. */
  sidebar?: { open: boolean; toggle: () => void }
  onNew?: (() => void) | undefined
  onSettings?: () => void
  onShortcuts?: () => void
  onForgetKey?: (() => void) | undefined
}

export function Header({ appearance, title, models, sidebar, onNew, onSettings, onShortcuts, onForgetKey }: Props) {
  const { t, language, setLanguage } = useI18n()
  return (
    <header className={styles.header}>
      {sidebar && (
        <IconButton label={t('history.toggle')} icon={<MenuOutlined />} expanded={sidebar.open} onClick={sidebar.toggle} />
      )}
      {title !== undefined && (
        <>
          <img src="./favicon.svg" alt="" width={28} height={28} />
          <strong className={styles.title}>{title}</strong>
        </>
      )}
      {models && <ModelPicker {...models} className={styles.models} />}
      <span className={styles.space} />
      {onNew && <IconButton label={t('chat.new')} icon={<PlusOutlined />} onClick={onNew} />}
      {onSettings && <IconButton label={t('settings.title')} icon={<ControlOutlined />} onClick={onSettings} />}
      <IconButton
        label={t('language.switch')}
        icon={<TranslationOutlined />}
        onClick={() => setLanguage(language === 'en' ? 'zh' : 'en')}
      />
      <Dropdown
        trigger={['click']}
        menu={{
          selectedKeys: [appearance.choice],
          items: APPEARANCES.map((choice) => ({ key: choice, icon: ICONS[choice], label: t(`appearance.${choice}`) })),
          onClick: ({ key }) => appearance.setChoice(key as Appearance),
        }}
      >
        <Button type="text" aria-label={t('appearance.label')} icon={ICONS[appearance.choice]} />
      </Dropdown>
      {onShortcuts && (
        <IconButton
          className={styles.keyboard}
          label={t('shortcut.title')}
          icon={<QuestionCircleOutlined />}
          onClick={onShortcuts}
        />
      )}
      {onForgetKey && <IconButton label={t('key.forget')} icon={<KeyOutlined />} onClick={onForgetKey} />}
    </header>
  )
}

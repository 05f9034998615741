import { BulbOutlined, KeyOutlined, MoonOutlined, PlusOutlined, SunOutlined, TranslationOutlined } from '@ant-design/icons'
import { Button, Dropdown, Tooltip } from 'antd'
import type { ComponentProps, ReactNode } from 'react'
import { useI18n } from '../i18n/I18n'
import { ModelPicker } from '../models/ModelPicker'
import styles from './Header.module.css'
import { APPEARANCES, type Appearance, type useAppearance } from './useAppearance'

const ICONS: Record<Appearance, ReactNode> = { system: <BulbOutlined />, light: <SunOutlined />, dark: <MoonOutlined /> }

interface Props {
  title: string
  appearance: ReturnType<typeof useAppearance>
  models?: ComponentProps<typeof ModelPicker>
  onNewChat?: (() => void) | undefined
  onForgetKey?: (() => void) | undefined
}

export function Header({ title, appearance, models, onNewChat, onForgetKey }: Props) {
  const { t, language, setLanguage } = useI18n()
  return (
    <header className={`${styles.header} ${models ? styles.withModels : ''}`}>
      <img src="./favicon.svg" alt="" width={28} height={28} />
      <strong className={styles.title}>{title}</strong>
      {models && <ModelPicker {...models} className={styles.models} />}
      <span className={styles.space} />
      {onNewChat && <IconButton label={t('chat.new')} icon={<PlusOutlined />} onClick={onNewChat} />}
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
      {onForgetKey && <IconButton label={t('key.forget')} icon={<KeyOutlined />} onClick={onForgetKey} />}
    </header>
  )
}

function IconButton({ label, icon, onClick }: { label: string; icon: ReactNode; onClick: () => void }) {
  return (
    <Tooltip title={label}>
      <Button type="text" aria-label={label} icon={icon} onClick={onClick} />
    </Tooltip>
  )
}

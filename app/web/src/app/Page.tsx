import { lazy, Suspense, useEffect, useMemo, useRef, useState } from 'react'
import { type Api, createApi } from '../api/client'
import type { ComposerHandle } from '../chat/Composer'
import { ChatView } from '../chat/ChatView'
import { useChats } from '../chat/useChats'
import type { Config } from '../config/config'
import { Sidebar } from '../history/Sidebar'
import { useI18n } from '../i18n/I18n'
import { KeyForm } from '../key/KeyForm'
import { useKeyStore } from '../key/keyStore'
import { type Models, useModels } from '../models/useModels'
import { usePreference, useStored } from '../preferences/useStored'
import { parseSettings, type Settings } from '../settings/settings'
import { useShortcuts } from '../shortcuts/useShortcuts'
import { Dialog } from '../ui/Dialog'
import { useMedia } from '../ui/useMedia'
import { FailureAlert } from './FailureAlert'
import { Header } from './Header'
import styles from './Page.module.css'
import type { useAppearance } from './useAppearance'

const SettingsDialog = lazy(() => import('../settings/SettingsDialog'))
const ShortcutsDialog = lazy(() => import('../shortcuts/ShortcutsDialog'))

interface Props {
  config: Config
  appearance: ReturnType<typeof useAppearance>
}

/** Asks for a key where one is needed, else chats. */
export function Page({ config, appearance }: Props) {
  const { key, keep, forget } = useKeyStore()
  const needsKey = config.keyRequired && key === null
  const api = useMemo(() => (needsKey ? null : createApi(config.apiBase, key)), [config.apiBase, key, needsKey])
  const models = useModels(api)
  const refusal = models.failure?.kind === 'unauthorized' ? models.failure : null

  if (api === null || refusal) {
    return (
      <div className={styles.column}>
        <Header title={config.title} appearance={appearance} />
        <KeyForm refusal={refusal} onKey={keep} />
      </div>
    )
  }
  return <ChatPage config={config} appearance={appearance} api={api} models={models} onForgetKey={key ? forget : undefined} />
}

interface ChatPageProps extends Props {
  api: Api
  models: Models
  onForgetKey: (() => void) | undefined
}

type Open = 'settings' | 'shortcuts' | 'sidebar' | null

function ChatPage({ config, appearance, api, models, onForgetKey }: ChatPageProps) {
  const { t, language } = useI18n()
  const initial = (raw: unknown): Settings => parseSettings(raw ?? { systemPrompt: config.systemPrompt })
  const [settings, keepSettings] = useStored('settings', initial)
  const { store, view } = useChats(config.history, settings)
  const [wanted, setWanted] = useStored('model', (raw) => (typeof raw === 'string' ? raw : config.defaultModel))
  const [chosen, setChosen] = useState<string | null>(null)
  const [open, setOpen] = useState<Open>(null)
  const [pinned, setPinned] = usePreference('sidebar', ['shown', 'hidden'], 'shown')
  const wide = useMedia('(min-width: 900px)')
  const composer = useRef<ComposerHandle>(null)
  const search = useRef<HTMLInputElement>(null)

  // A conversation goes on with the model that it had, until another one is chosen.
  const shown = view.chat?.id ?? null
  useEffect(() => setChosen(null), [shown])
  const named = (name: string | null | undefined) => models.list?.find((one) => one.name === name)
  const model = named(chosen) ?? named(view.chat?.model) ?? named(wanted) ?? models.list?.[0] ?? null
  const target = useMemo(() => (model ? { api, model: model.name } : null), [api, model])
  const limits = useMemo(() => ({ images: config.images, bytes: config.attachmentBytes }), [config])

  const close = () => setOpen(null)
  const sidebarOpen = wide ? pinned === 'shown' : open === 'sidebar'
  const showSidebar = (show: boolean) => (wide ? setPinned(show ? 'shown' : 'hidden') : setOpen(show ? 'sidebar' : null))
  const startNew = () => {
    void store.open(null)
    if (!wide) close()
    setTimeout(() => composer.current?.focus())
  }
  useShortcuts({
    new: startNew,
    sidebar: () => showSidebar(!sidebarOpen),
    settings: () => setOpen('settings'),
    help: () => setOpen('shortcuts'),
    escape: () => store.stop(),
    search: () => {
      showSidebar(true)
      setTimeout(() => search.current?.focus())
    },
  })
  const sidebar = (
    <Sidebar
      {...{ store, view, search }}
      title={config.title}
      onNew={startNew}
      onChosen={() => !wide && close()}
    />
  )

  return (
    <div className={styles.layout}>
      {wide && sidebarOpen && <aside className={styles.aside}>{sidebar}</aside>}
      {!wide && sidebarOpen && (
        <Dialog label={t('history.label')} side="start" titled={false} onClose={close}>
          {sidebar}
        </Dialog>
      )}
      <div className={styles.column}>
        <Header
          appearance={appearance}
          models={{
            names: models.list?.map((one) => one.name) ?? null,
            chosen: model?.name ?? null,
            onChoose: (name) => {
              setChosen(name)
              setWanted(name)
            },
          }}
          sidebar={{ open: sidebarOpen, toggle: () => showSidebar(!sidebarOpen) }}
          onNew={wide && sidebarOpen ? undefined : startNew}
          onSettings={() => setOpen('settings')}
          onShortcuts={() => setOpen('shortcuts')}
          onForgetKey={onForgetKey}
        />
        {models.failure && (
          <div className={styles.notice}>
            <FailureAlert failure={models.failure} onRetry={models.reload} retriesItself />
          </div>
        )}
        <ChatView
          {...{ store, view, target, model, limits, composer }}
          suggestions={config.suggestions[language]}
        />
      </div>
      <Suspense>
        {open === 'settings' && (
          <SettingsDialog
            settings={view.settings}
            onClose={close}
            onChange={(next) => {
              store.set(next)
              keepSettings(next)
            }}
          />
        )}
        {open === 'shortcuts' && <ShortcutsDialog onClose={close} />}
      </Suspense>
    </div>
  )
}

import { Button } from 'antd'
import { useMemo, useState } from 'react'
import { type Api, createApi } from '../api/client'
import { ChatView } from '../chat/ChatView'
import { useChat } from '../chat/useChat'
import type { Config } from '../config/config'
import { useI18n } from '../i18n/I18n'
import { KeyForm } from '../key/KeyForm'
import { useKeyStore } from '../key/keyStore'
import { type Models, useModels } from '../models/useModels'
import { FailureAlert } from './FailureAlert'
import { Header } from './Header'
import styles from './Page.module.css'
import type { useAppearance } from './useAppearance'

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
      <>
        <Header title={config.title} appearance={appearance} />
        <KeyForm refusal={refusal} onKey={keep} />
      </>
    )
  }
  return <ChatPage config={config} appearance={appearance} api={api} models={models} onForgetKey={key ? forget : undefined} />
}

interface ChatPageProps extends Props {
  api: Api
  models: Models
  onForgetKey: (() => void) | undefined
}

function ChatPage({ config, appearance, api, models, onForgetKey }: ChatPageProps) {
  const { t, language } = useI18n()
  const [wanted, setWanted] = useState(config.defaultModel)
  const model = models.names?.find((name) => name === wanted) ?? models.names?.[0] ?? null
  const chat = useChat(api, model)

  return (
    <>
      <Header
        title={config.title}
        appearance={appearance}
        models={{ names: models.names, chosen: model, onChoose: setWanted }}
        onNewChat={chat.messages.length > 0 ? chat.clear : undefined}
        onForgetKey={onForgetKey}
      />
      {models.failure && (
        <div className={styles.notice}>
          <FailureAlert failure={models.failure} action={<Button onClick={models.reload}>{t('chat.retry')}</Button>} />
        </div>
      )}
      <ChatView chat={chat} model={model} suggestions={config.suggestions[language]} />
    </>
  )
}

import { Bubble, Prompts, Sender, Welcome } from '@ant-design/x'
import { useEffect, useState } from 'react'
import { useI18n } from '../i18n/I18n'
import { Answer, preloadMarkdown } from './Answer'
import styles from './ChatView.module.css'
import type { Chat } from './useChat'

interface Props {
  chat: Chat
  model: string | null
  suggestions: string[]
}

export function ChatView({ chat, model, suggestions }: Props) {
  const { t } = useI18n()
  const [draft, setDraft] = useState('')
  useEffect(preloadMarkdown, [])

  const send = (text: string) => {
    if (!text.trim() || chat.busy || model === null) return
    chat.ask(text.trim())
    setDraft('')
  }
  const last = chat.messages.at(-1)
  const items = chat.messages.map((entry) =>
    entry.message.role === 'user'
      ? { key: entry.id, role: 'user', content: entry.message.content }
      : {
          key: entry.id,
          role: 'ai',
          loading: entry.status === 'loading',
          content: <Answer entry={entry} onRetry={entry === last ? () => chat.retry(entry.id) : undefined} />,
        },
  )

  return (
    <main className={styles.view}>
      {items.length > 0 ? (
        <Bubble.List
          className={styles.list}
          classNames={{ scroll: styles.scroll }}
          aria-label={t('chat.label')}
          items={items}
          role={{
            user: { placement: 'end', variant: 'filled' },
            ai: { placement: 'start', variant: 'borderless', loadingRender: () => <Waiting /> },
          }}
        />
      ) : (
        <div className={styles.empty}>
          <Welcome
            variant="borderless"
            title={t('chat.welcome', { model: model ?? '…' })}
            description={t('chat.welcomeHint')}
          />
          {suggestions.length > 0 && (
            <Prompts
              title={t('chat.suggestions')}
              wrap
              items={suggestions.map((text) => ({ key: text, label: text, disabled: model === null }))}
              onItemClick={({ data }) => send(data.key)}
            />
          )}
        </div>
      )}
      <div className={styles.bottom}>
        <Sender
          value={draft}
          onChange={setDraft}
          onSubmit={send}
          onCancel={chat.stop}
          loading={chat.busy}
          disabled={model === null}
          placeholder={t('chat.placeholder')}
          autoSize={{ minRows: 1, maxRows: 8 }}
        />
        <p className={styles.hint}>{t('chat.hint')}</p>
      </div>
    </main>
  )
}

function Waiting() {
  const { t } = useI18n()
  return (
    <span className={styles.waiting} role="status" aria-label={t('chat.waiting')}>
      <i />
      <i />
      <i />
    </span>
  )
}

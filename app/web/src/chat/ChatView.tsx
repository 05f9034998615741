import { Bubble, Prompts, Welcome } from '@ant-design/x'
import { type Ref, useEffect, useState } from 'react'
import type { Attachment, Limits } from '../attachments/attachment'
import type { Model } from '../api/client'
import { useI18n } from '../i18n/I18n'
import { Answer, preloadMarkdown } from './Answer'
import type { ChatStore, Target, View } from './ChatStore'
import styles from './ChatView.module.css'
import { Composer, type ComposerHandle } from './Composer'
import { Question } from './Question'
import { siblingsOf } from './tree'

interface Props {
  store: ChatStore
  view: View
  /** Null where there is no model to ask. */
  target: Target | null
  model: Model | null
  limits: Limits
  suggestions: string[]
  composer: Ref<ComposerHandle>
}

export function ChatView({ store, view, target, model, limits, suggestions, composer }: Props) {
  const { t } = useI18n()
  const [dragging, setDragging] = useState(false)
  const [edited, setEdited] = useState<string | null>(null)
  useEffect(preloadMarkdown, [])

  const busy = view.chat !== null && view.running.has(view.chat.id)
  const able = target !== null && !busy ? target : null
  const onRegenerate = able ? (id: string) => store.regenerate(id, able) : undefined
  const onGoOn = able ? (id: string) => store.goOn(id, able) : undefined
  const onEdit = able ? (id: string, text: string) => store.edit(id, text, able) : undefined
  const onTurnTo = (id: string) => store.turnTo(id)
  const send = (text: string, attachments: Attachment[]) => able && store.ask(text, attachments, able)

  const items = view.path.map((message, at) => {
    const siblings = siblingsOf(view.tree, message)
    return message.role === 'user'
      ? {
          key: message.id,
          role: 'user',
          content: (
            <Question {...{ message, siblings, onTurnTo, onEdit }} editing={message.id === edited} onEditing={setEdited} />
          ),
        }
      : {
          key: message.id,
          role: 'ai',
          content: (
            <Answer
              {...{ message, siblings, onTurnTo, onRegenerate, onGoOn }}
              retriesItself={at === view.path.length - 1 && store.retriesItself(message)}
            />
          ),
        }
  })
  const usage = view.path.findLast((message) => message.usage)?.usage
  const context =
    usage && model?.contextLength ? { used: usage.prompt + usage.completion, length: model.contextLength } : null

  return (
    <main
      className={`${styles.view} ${dragging ? styles.dragging : ''}`}
      onDragOver={(event) => {
        if (!event.dataTransfer.types.includes('Files')) return
        event.preventDefault()
        setDragging(true)
      }}
      onDragLeave={() => setDragging(false)}
      onDrop={(event) => {
        setDragging(false)
        if (event.dataTransfer.files.length === 0) return
        event.preventDefault()
        if (composer && 'current' in composer) composer.current?.addFiles(event.dataTransfer.files)
      }}
    >
      {items.length > 0 ? (
        <Bubble.List
          key={view.chat?.id}
          className={styles.list}
          classNames={{ scroll: styles.scroll }}
          aria-label={t('chat.label')}
          items={items}
          role={{
            user: { placement: 'end', variant: 'borderless' },
            ai: { placement: 'start', variant: 'borderless', classNames: { root: styles.wide } },
          }}
        />
      ) : (
        <div className={styles.empty}>
          <Welcome
            variant="borderless"
            icon={<img src="./favicon.svg" alt="" />}
            title={t('chat.welcome', { model: model?.name ?? '…' })}
            description={t('chat.welcomeHint')}
          />
          {suggestions.length > 0 && (
            <Prompts
              title={t('chat.suggestions')}
              wrap
              items={suggestions.map((text) => ({ key: text, label: text, disabled: target === null }))}
              onItemClick={({ data }) => send(data.key, [])}
            />
          )}
        </div>
      )}
      <Composer
        ref={composer}
        limits={limits}
        busy={busy}
        ready={target !== null}
        context={context}
        onSend={send}
        onStop={() => store.stop()}
        onRecall={() => setEdited(view.path.findLast((message) => message.role === 'user')?.id ?? null)}
      />
    </main>
  )
}

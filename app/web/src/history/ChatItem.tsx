import { DeleteOutlined, DownloadOutlined, EditOutlined, FileMarkdownOutlined, MoreOutlined } from '@ant-design/icons'
import { Button, Dropdown, Input } from 'antd'
import { useState } from 'react'
import type { ChatStore } from '../chat/ChatStore'
import { addressOf } from '../chat/useChats'
import { useI18n } from '../i18n/I18n'
import type { Chat } from './repository'
import { saveFile } from './saveFile'
import styles from './Sidebar.module.css'

interface Props {
  store: ChatStore
  chat: Chat
  current: boolean
  running: boolean
  onChosen: () => void
}

export function ChatItem({ store, chat, current, running, onChosen }: Props) {
  const { t } = useI18n()
  const [renaming, setRenaming] = useState(false)
  if (renaming) {
    const rename = (title: string) => {
      store.rename(chat.id, title)
      setRenaming(false)
    }
    return (
      <li>
        <Input
          aria-label={t('history.newName')}
          autoFocus
          defaultValue={chat.title}
          onFocus={(event) => event.target.select()}
          onBlur={(event) => rename(event.target.value)}
          onKeyDown={(event) => {
            if (event.key === 'Enter' && !event.nativeEvent.isComposing) rename(event.currentTarget.value)
            if (event.key === 'Escape') {
              event.stopPropagation()
              event.preventDefault() // or a dialog around it would close
              setRenaming(false)
            }
          }}
        />
      </li>
    )
  }

  const exported = async (format: 'json' | 'markdown') => {
    const { toJson, toMarkdown } = await import('./transfer')
    const conversations = await store.conversations([chat])
    const name = chat.title.replace(/[^\p{L}\p{N}]+/gu, '-').slice(0, 60) || 'chat'
    if (format === 'json') saveFile(`${name}.json`, 'application/json', toJson(conversations))
    for (const one of format === 'markdown' ? conversations : []) {
      saveFile(`${name}.md`, 'text/markdown', toMarkdown(one, { user: t('chat.question'), assistant: t('chat.answer') }))
    }
  }
  const actions: Record<string, () => void> = {
    rename: () => setRenaming(true),
    json: () => void exported('json'),
    markdown: () => void exported('markdown'),
    remove: () => void store.remove([chat.id]),
  }
  return (
    <li className={styles.item} data-running={running}>
      <a href={addressOf(chat.id)} aria-current={current ? 'page' : undefined} title={chat.title} onClick={onChosen}>
        {chat.title}
      </a>
      <Dropdown
        trigger={['click']}
        menu={{
          items: [
            { key: 'rename', icon: <EditOutlined aria-hidden />, label: t('history.rename') },
            { key: 'json', icon: <DownloadOutlined aria-hidden />, label: t('history.export') },
            { key: 'markdown', icon: <FileMarkdownOutlined aria-hidden />, label: t('history.exportMarkdown') },
            { key: 'remove', icon: <DeleteOutlined aria-hidden />, danger: true, label: t('history.remove') },
          ],
          onClick: ({ key }) => actions[key]?.(),
        }}
      >
        <Button type="text" size="small" aria-label={t('history.more', { title: chat.title })} icon={<MoreOutlined />} />
      </Dropdown>
    </li>
  )
}

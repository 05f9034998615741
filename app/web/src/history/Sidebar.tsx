import { CloseOutlined, DeleteOutlined, DownloadOutlined, ImportOutlined, PlusOutlined, SearchOutlined } from '@ant-design/icons'
import { Button, Input } from 'antd'
import { type Ref, useDeferredValue, useEffect, useState } from 'react'
import type { ChatStore, View } from '../chat/ChatStore'
import { useI18n } from '../i18n/I18n'
import { IconButton } from '../ui/IconButton'
import { PickFiles } from '../ui/PickFiles'
import { ChatItem } from './ChatItem'
import { grouped } from './groups'
import type { Chat } from './repository'
import { saveFile } from './saveFile'
import styles from './Sidebar.module.css'

interface Props {
  store: ChatStore
  view: View
  title: string
  search: Ref<HTMLInputElement>
  onNew: () => void
  /** After something was chosen: on a phone the list gives way. */
  onChosen: () => void
}

/** All conversations: search, rename, delete with a way back, export and import. */
export function Sidebar({ store, view, title, search, onNew, onChosen }: Props) {
  const { t } = useI18n()
  const [words, setWords] = useState('')
  const [broken, setBroken] = useState<string | null>(null)
  const chats = useFound(store, view.chats, words.trim())

  const exportAll = async () => {
    const { toJson } = await import('./transfer')
    saveFile('bedplate-chats.json', 'application/json', toJson(await store.conversations(view.chats)))
  }
  const importFile = async ([file]: File[]) => {
    if (!file) return
    const { fromJson } = await import('./transfer')
    try {
      await store.add(fromJson(await file.text()))
      setBroken(null)
    } catch {
      setBroken(file.name)
    }
  }

  return (
    <div className={styles.sidebar}>
      <div className={styles.brand}>
        <img src="./favicon.svg" alt="" width={26} height={26} />
        <strong>{title}</strong>
      </div>
      <Button block icon={<PlusOutlined aria-hidden />} onClick={onNew}>
        {t('chat.new')}
      </Button>
      <Input
        // @ts-expect-error antd hands out its own handle, which has focus() as an input has
        ref={search}
        type="search"
        allowClear
        prefix={<SearchOutlined aria-hidden />}
        aria-label={t('history.search')}
        placeholder={t('history.search')}
        value={words}
        onChange={(event) => setWords(event.target.value)}
      />
      <nav className={styles.list} aria-label={t('history.label')}>
        {grouped(chats, Date.now()).map(([age, group]) => (
          <section key={age}>
            <h2>{t(`history.${age}`)}</h2>
            <ul>
              {group.map((chat) => (
                <ChatItem
                  key={chat.id}
                  {...{ chat, store }}
                  current={chat.id === view.chat?.id}
                  running={view.running.has(chat.id)}
                  onChosen={onChosen}
                />
              ))}
            </ul>
          </section>
        ))}
        {chats.length === 0 && <p>{t(words ? 'history.nothing' : 'history.empty')}</p>}
      </nav>
      {view.removed.length > 0 && (
        <div className={styles.notice} role="status">
          <span>{t('history.removed', { count: view.removed.length })}</span>
          <Button size="small" onClick={() => void store.restore()}>
            {t('history.undo')}
          </Button>
          <IconButton size="small" label={t('ui.close')} icon={<CloseOutlined />} onClick={() => store.forgetRemoved()} />
        </div>
      )}
      {broken !== null && (
        <div className={styles.notice} role="alert">
          {t('history.notOurs', { name: broken })}
        </div>
      )}
      {view.lasting === false && (
        <div className={styles.notice} role="status">
          {t('history.notKept')}
        </div>
      )}
      <footer className={styles.footer}>
        <IconButton
          label={t('history.exportAll')}
          icon={<DownloadOutlined />}
          disabled={view.chats.length === 0}
          onClick={() => void exportAll()}
        />
        <PickFiles
          label={t('history.import')}
          icon={<ImportOutlined />}
          accept="application/json,.json"
          onPick={(files) => void importFile(files)}
        />
        <IconButton
          label={t('history.removeAll')}
          icon={<DeleteOutlined />}
          disabled={view.chats.length === 0}
          onClick={() => void store.remove(view.chats.map((chat) => chat.id))}
        />
      </footer>
    </div>
  )
}

/** The chats whose title or messages have these words; all for none. */
function useFound(store: ChatStore, chats: Chat[], words: string): Chat[] {
  const wanted = useDeferredValue(words)
  const [inside, setInside] = useState<ReadonlySet<string>>(new Set())
  useEffect(() => {
    if (!wanted) return
    let current = true
    void store.containing(wanted).then((found) => current && setInside(found))
    return () => {
      current = false
    }
  }, [store, wanted])
  if (!words) return chats
  return chats.filter((chat) => chat.title.toLowerCase().includes(words.toLowerCase()) || inside.has(chat.id))
}

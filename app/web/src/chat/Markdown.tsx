import { XMarkdown } from '@ant-design/x-markdown'
import { useMemo } from 'react'
import styles from './Markdown.module.css'

/** Loaded apart from the page: the parser is not needed for the first paint. */
export default function Markdown({ text, growing }: { text: string; growing: boolean }) {
  const streaming = useMemo(() => ({ hasNextChunk: growing }), [growing])
  return <XMarkdown className={styles.markdown} content={text} streaming={streaming} escapeRawHtml openLinksInNewTab />
}

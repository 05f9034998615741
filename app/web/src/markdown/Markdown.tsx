import { type ComponentProps, XMarkdown } from '@ant-design/x-markdown'
import { useMemo } from 'react'
import { Code } from './Code'
import { Formula } from './Formula'
import styles from './Markdown.module.css'
import { mathExtensions } from './math'

/** Loaded apart from the page: the parser is not needed for the first paint. */
export default function Markdown({ text, growing }: { text: string; growing: boolean }) {
  const streaming = useMemo(() => ({ hasNextChunk: growing }), [growing])
  return (
    <XMarkdown
      className={styles.markdown}
      content={text}
      streaming={streaming}
      config={CONFIG}
      components={COMPONENTS}
      escapeRawHtml
      openLinksInNewTab
    />
  )
}

const CONFIG = { extensions: mathExtensions('bp-formula') }
const COMPONENTS = { pre: Block, code: Code, table: Table, img: ImageLink, 'bp-formula': Formula }

/** Code draws its own frame. */
function Block({ children }: ComponentProps) {
  return <>{children}</>
}

/** A table scrolls by itself, with the keyboard too. */
function Table({ children }: ComponentProps) {
  return (
    <div className={styles.scroll} tabIndex={0}>
      <table>{children}</table>
    </div>
  )
}

/** An image would be fetched from wherever an answer says: a reader may follow the link instead. */
function ImageLink({ src, alt }: ComponentProps<{ src?: string; alt?: string }>) {
  return (
    <a href={src} target="_blank" rel="noopener noreferrer">
      {alt || src}
    </a>
  )
}

import type { Token, XMarkdownProps } from '@ant-design/x-markdown'

type Extensions = NonNullable<NonNullable<XMarkdownProps['config']>['extensions']>

const BLOCK = /^ {0,3}(?:\$\$\s*\n?([\s\S]+?)\n?\s*\$\$|\\\[\s*([\s\S]+?)\s*\\\])(?:[ \t]*(?:\n|$))/
const DISPLAY = /^(?:\$\$([^$\n]+?)\$\$|\\\[([^\n]+?)\\\])/
// As Pandoc reads it: no blank inside the signs and no digit after them, so that prices stay prices.
const INLINE = /^(?:\$(?![\s$])((?:\\.|[^\\$\n])*?(?:\\.|[^\\$\s]))\$(?!\d)|\\\(\s*([\s\S]+?)\s*\\\))/

/** TeX in Markdown for `marked`: `$…$`, `$$…$$`, `\(…\)` and `\[…\]` become elements of this name around the TeX. */
export function mathExtensions(element: string): Extensions {
  const token = (type: string, match: RegExpExecArray | null, display: boolean): Token | undefined =>
    match ? { type, raw: match[0], text: match[1] ?? match[2] ?? '', display } : undefined
  const renderer = ({ text, display }: Token) =>
    `<${element} title="${display ? 'display' : 'inline'}">${escaped(text)}</${element}>`
  return [
    { name: 'formulaBlock', level: 'block', start: (text) => text.match(/\$\$|\\\[/)?.index, renderer,
      tokenizer: (text) => token('formulaBlock', BLOCK.exec(text), true) },
    { name: 'formula', level: 'inline', start: (text) => text.match(/\$|\\[([]/)?.index, renderer,
      tokenizer: (text) => token('formula', DISPLAY.exec(text), true) ?? token('formula', INLINE.exec(text), false) },
  ]
}

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
const escaped = (text: string): string => text.replace(/[&<>"]/g, (sign) => ENTITIES[sign] ?? sign)

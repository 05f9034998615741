import type { ComponentProps } from '@ant-design/x-markdown'
import { lazy, Suspense } from 'react'

const Tex = lazy(() => import('./Tex'))

/** A formula; until KaTeX is there, its source. */
export function Formula({ title, children }: ComponentProps) {
  const source = String(children ?? '')
  return (
    <Suspense fallback={<code>{source}</code>}>
      <Tex source={source} display={title === 'display'} />
    </Suspense>
  )
}

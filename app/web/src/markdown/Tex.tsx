import { render } from 'katex'
import 'katex/dist/katex.min.css'
import { useLayoutEffect, useRef } from 'react'
import styles from './Tex.module.css'

/** TeX by KaTeX, with MathML for screen readers; what it cannot read is shown as it is. */
export default function Tex({ source, display }: { source: string; display: boolean }) {
  const place = useRef<HTMLSpanElement>(null)
  useLayoutEffect(() => {
    if (place.current) {
      render(source, place.current, { displayMode: display, throwOnError: false, errorColor: 'inherit', strict: false })
    }
  }, [source, display])
  return <span ref={place} className={display ? styles.display : undefined} tabIndex={display ? 0 : undefined} />
}

import { type ReactNode, useRef } from 'react'
import { IconButton } from './IconButton'

interface Props {
  label: string
  icon: ReactNode
  accept?: string
  multiple?: boolean
  disabled?: boolean
  onPick: (files: File[]) => void
}

/** A button that lets files be chosen. */
export function PickFiles({ label, icon, accept, multiple, disabled = false, onPick }: Props) {
  const input = useRef<HTMLInputElement>(null)
  return (
    <>
      <input
        ref={input}
        type="file"
        hidden
        accept={accept}
        multiple={multiple}
        aria-label={label}
        onChange={(event) => {
          onPick([...(event.target.files ?? [])])
          event.target.value = '' // so that the same file can be chosen again
        }}
      />
      <IconButton label={label} icon={icon} disabled={disabled} onClick={() => input.current?.click()} />
    </>
  )
}

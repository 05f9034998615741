import { Button, Tooltip } from 'antd'
import type { ReactNode } from 'react'

interface Props {
  label: string
  icon: ReactNode
  onClick?: () => void
  size?: 'small' | 'middle'
  disabled?: boolean
  /** For a button that shows and hides something. */
  expanded?: boolean
  className?: string | undefined
}

/** A button without words: its name is heard by screen readers and shown when pointed at. */
export function IconButton({ label, expanded, size = 'middle', ...rest }: Props) {
  return (
    <Tooltip title={label} mouseEnterDelay={0.4}>
      <Button type="text" size={size} aria-label={label} aria-expanded={expanded} {...rest} />
    </Tooltip>
  )
}

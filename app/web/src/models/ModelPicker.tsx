import { Select } from 'antd'
import { useI18n } from '../i18n/I18n'

interface Props {
  names: string[] | null
  chosen: string | null
  onChoose: (name: string) => void
  className?: string
}

export function ModelPicker({ names, chosen, onChoose, className }: Props) {
  const { t } = useI18n()
  return (
    <Select
      aria-label={t('model.label')}
      className={className}
      variant="filled"
      value={chosen}
      onChange={onChoose}
      loading={names === null}
      disabled={!names?.length}
      placeholder={t('model.none')}
      options={names?.map((name) => ({ value: name, label: name }))}
      popupMatchSelectWidth={false}
    />
  )
}

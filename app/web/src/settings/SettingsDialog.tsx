import { CloseOutlined } from '@ant-design/icons'
import { Button, Input, InputNumber, Slider } from 'antd'
import { useId, useState } from 'react'
import { useI18n } from '../i18n/I18n'
import { Dialog } from '../ui/Dialog'
import { IconButton } from '../ui/IconButton'
import styles from './SettingsDialog.module.css'
import {
  NUMBER_FIELDS, type NumberField, parseTools, PRESET_NAMES, PRESETS, type Sampling, sameSampling, samplingOf, type Settings,
} from './settings'
import { usePresets } from './usePresets'

interface Props {
  settings: Settings
  onChange: (settings: Settings) => void
  onClose: () => void
}

/** System prompt, sampling and tools of the shown conversation; new ones begin with them. */
export default function SettingsDialog({ settings, onChange, onClose }: Props) {
  const { t } = useI18n()
  const id = useId()
  const [tools, setTools] = useState(settings.tools)
  return (
    <Dialog label={t('settings.title')} side="end" onClose={onClose}>
      <div className={styles.body}>
        <p className={styles.intro}>{t('settings.intro')}</p>
        <label htmlFor={`${id}-prompt`}>{t('settings.systemPrompt')}</label>
        <Input.TextArea
          id={`${id}-prompt`}
          autoSize={{ minRows: 3, maxRows: 10 }}
          placeholder={t('settings.systemPromptHint')}
          value={settings.systemPrompt}
          onChange={(event) => onChange({ ...settings, systemPrompt: event.target.value })}
        />
        <Presets sampling={samplingOf(settings)} onChoose={(sampling) => onChange({ ...settings, ...sampling })} />
        {NUMBER_FIELDS.map((field) => (
          <NumberRow
            key={field.name}
            field={field}
            value={settings[field.name]}
            onChange={(value) => onChange({ ...settings, [field.name]: value })}
          />
        ))}
        <label htmlFor={`${id}-tools`}>{t('settings.tools')}</label>
        <Input.TextArea
          id={`${id}-tools`}
          className={styles.code}
          autoSize={{ minRows: 2, maxRows: 10 }}
          status={parseTools(tools) === null ? 'error' : ''}
          aria-describedby={`${id}-tools-hint`}
          spellCheck={false}
          value={tools}
          onChange={(event) => {
            setTools(event.target.value)
            if (parseTools(event.target.value) !== null) onChange({ ...settings, tools: event.target.value })
          }}
        />
        <p id={`${id}-tools-hint`} className={parseTools(tools) === null ? styles.wrong : styles.hint}>
          {t(parseTools(tools) === null ? 'settings.toolsWrong' : 'settings.toolsHint')}
        </p>
      </div>
    </Dialog>
  )
}

interface NumberRowProps {
  field: NumberField
  value: number | null
  onChange: (value: number | null) => void
}

function NumberRow({ field: { name, min, max, step, usual }, value, onChange }: NumberRowProps) {
  const { t } = useI18n()
  const id = useId()
  const label = t(`settings.${name}`)
  return (
    <div className={styles.row}>
      <div>
        <label htmlFor={id}>{label}</label>
        <p className={styles.hint}>{t(`hint.${name}`)}</p>
      </div>
      <InputNumber
        id={id}
        className={styles.number}
        {...{ min, max, step, value }}
        {...(step === 1 && { precision: 0 })}
        placeholder={t('settings.automatic')}
        onChange={onChange}
      />
      {step !== 1 && (
        <Slider
          className={value === null ? `${styles.slider} ${styles.unset}` : styles.slider}
          {...{ min, max, step }}
          value={value ?? usual}
          ariaLabelForHandle={label}
          onChange={onChange}
        />
      )}
    </div>
  )
}

/** Sets of sampling values by a word: ours, and those that a person keeps. */
function Presets({ sampling, onChoose }: { sampling: Sampling; onChoose: (sampling: Sampling) => void }) {
  const { t } = useI18n()
  const { own, keep, forget } = usePresets()
  const [name, setName] = useState('')
  const chip = (key: string, label: string, preset: Sampling) => (
    <Button
      key={key}
      size="small"
      type={sameSampling(preset, sampling) ? 'primary' : 'default'}
      aria-pressed={sameSampling(preset, sampling)}
      onClick={() => onChoose(preset)}
    >
      {label}
    </Button>
  )
  return (
    <fieldset className={styles.presets}>
      <legend>{t('settings.sampling')}</legend>
      <div className={styles.chips}>
        {PRESET_NAMES.map((preset) => chip(preset, t(`preset.${preset}`), PRESETS[preset]))}
        {Object.entries(own).map(([label, preset]) => (
          <span key={`own ${label}`} className={styles.own}>
            {chip(label, label, preset)}
            <IconButton
              size="small"
              label={t('preset.forget', { name: label })}
              icon={<CloseOutlined />}
              onClick={() => forget(label)}
            />
          </span>
        ))}
      </div>
      <form
        className={styles.keep}
        onSubmit={(event) => {
          event.preventDefault()
          if (name.trim()) keep(name.trim(), sampling)
          setName('')
        }}
      >
        <Input
          size="small"
          maxLength={30}
          aria-label={t('preset.name')}
          placeholder={t('preset.name')}
          value={name}
          onChange={(event) => setName(event.target.value)}
        />
        <Button size="small" htmlType="submit" disabled={!name.trim()}>
          {t('preset.keep')}
        </Button>
      </form>
    </fieldset>
  )
}

import { Button, Checkbox, Form, Input } from 'antd'
import type { Failure } from '../api/failure'
import { FailureAlert } from '../app/FailureAlert'
import { useI18n } from '../i18n/I18n'
import styles from './KeyForm.module.css'

interface Props {
  /** Why the key before this one was refused. */
  refusal: Failure | null
  onKey: (key: string, remember: boolean) => void
}

export function KeyForm({ refusal, onKey }: Props) {
  const { t } = useI18n()
  return (
    <main className={styles.frame}>
      <section className={styles.card}>
        <h1>{t('key.title')}</h1>
        <p>{t('key.intro')}</p>
        {refusal && <FailureAlert failure={refusal} />}
        <Form
          layout="vertical"
          requiredMark={false}
          initialValues={{ key: '', remember: false }}
          onFinish={(values: { key: string; remember: boolean }) => onKey(values.key, values.remember)}
        >
          <Form.Item
            name="key"
            label={t('key.title')}
            normalize={(value: string) => value.trim()}
            rules={[
              { required: true, message: t('key.required') },
              { pattern: /^[!-~]*$/, message: t('key.characters') }, // what an HTTP header can carry
            ]}
          >
            <Input.Password placeholder={t('key.placeholder')} autoComplete="off" autoFocus size="large" />
          </Form.Item>
          <Form.Item name="remember" valuePropName="checked" extra={t('key.rememberHint')}>
            <Checkbox>{t('key.remember')}</Checkbox>
          </Form.Item>
          <Button type="primary" htmlType="submit" size="large" block>
            {t('key.submit')}
          </Button>
        </Form>
      </section>
    </main>
  )
}

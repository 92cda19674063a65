/** A picture from a camera of this machine; what the camera sees leaves the page as that one picture. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { words } from '../language'
import { Problem } from './pieces'

const QUALITY = 0.95

/** Whether the browser lets this page ask for a camera: over https, or from this very machine. */
export const canAsk = (): boolean => 'mediaDevices' in navigator

/** The camera is on for as long as this is shown; `take` is given a JPEG of what it sees. */
export function Camera({ take }: { take: (image: File) => void }): JSX.Element {
  const video = useRef<HTMLVideoElement>(null)
  const live = useSignal(false)
  const refusal = useSignal<unknown>(undefined)
  const w = words.value
  useEffect(() => {
    let gone = false
    let stream: MediaStream | undefined
    const stop = (): void => stream?.getTracks().forEach((track) => track.stop())
    const unplugged = (): void => void (refusal.value = true)
    const start = async (): Promise<void> => {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } })
      if (gone) return stop()
      stream.getTracks().forEach((track) => track.addEventListener('ended', unplugged))
      if (video.current) video.current.srcObject = stream
    }
    start().catch((error: unknown) => !gone && (refusal.value = error))
    return () => {
      gone = true
      stop()
    }
  }, [])
  const picture = (): void => {
    const seen = video.current
    if (!seen) return
    const canvas = document.createElement('canvas')
    canvas.width = seen.videoWidth
    canvas.height = seen.videoHeight
    canvas.getContext('2d')?.drawImage(seen, 0, 0)
    canvas.toBlob((image) => image && take(new File([image], 'camera.jpg', { type: image.type })), 'image/jpeg', QUALITY)
  }
  if (refusal.value) {
    const refused = refusal.value instanceof DOMException && refusal.value.name === 'NotAllowedError'
    return refused ? <Problem message={w.cameraRefused} hint={w.cameraAllow} /> : <Problem message={w.noCamera} hint={w.cameraConnect} />
  }
  return (
    <>
      <video class="photo" ref={video} autoPlay muted playsInline aria-label={w.cameraView} onPlaying={() => (live.value = true)} />
      <button type="button" class="primary" disabled={!live.value} onClick={picture}>{w.takePicture}</button>
    </>
  )
}

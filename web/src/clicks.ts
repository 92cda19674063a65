/**
 * A button may take the place of the one that was clicked. The second half of a double click would then
 * press what nobody has seen, so it is dropped unless it meets the same element.
 */
export function dropStrayClicks(): void {
  let before: EventTarget | null = null
  addEventListener('click', (event) => {
    if (event.detail > 1 && event.target !== before) {
      event.preventDefault()
      event.stopPropagation()
    }
    before = event.target
  }, { capture: true })
}

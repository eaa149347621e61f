// How this customer wants the screen: contrast and reach. It is kept nowhere but
// on the document's root, so that a page loaded anew, as after each wipe, has neither.

const root = document.documentElement;

const preference = (name, value) => ({
  get on() {
    return root.dataset[name] === value;
  },
  set on(yes) {
    if (yes) root.dataset[name] = value;
    else delete root.dataset[name];
  },
});

export const contrast = preference('theme', 'contrast');
export const reach = preference('reach', 'low');

export function resetPrefs() {
  contrast.on = false;
  reach.on = false;
}

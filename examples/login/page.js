// The page: three forms, of which one is shown. The outcomes of otpd go to <otp-code> as they are.
const [start, login, account] = document.forms;
const field = document.querySelector('otp-code');

async function post(path, body = {}) {
  try {
    const headers = { 'Content-Type': 'application/json' };
    const response = await fetch(path, { method: 'POST', headers, body: JSON.stringify(body) });
    return response.ok ? await response.json() : { kind: 'failed' };
  } catch {
    return { kind: 'unavailable' };
  }
}

function open(form, focused) {
  for (const each of document.forms) each.hidden = each !== form;
  focused.focus();
}

async function sendCode() {
  const outcome = await post('/code', { userId: start.elements.userId.value });
  open(login, field);
  field.show(outcome);
}

async function showAccount() {
  const { user } = await post('/me');
  document.querySelector('h1').textContent = user ? 'Welcome' : 'Log in';
  document.querySelector('strong').textContent = user;
  if (user) open(account, document.querySelector('h1'));
  else open(start, start.elements.userId);
}

/** While a form waits for its answer, a second click does nothing. */
function onSubmit(form, act) {
  let isBusy = false;
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (isBusy) return;
    isBusy = true;
    await act();
    isBusy = false;
  });
}

onSubmit(start, sendCode);
onSubmit(login, async () => {
  const outcome = await post('/login', { code: field.value });
  field.show(outcome);
  if (outcome.kind === 'verified') await showAccount();
});
onSubmit(account, async () => {
  await post('/logout');
  await showAccount();
});
field.addEventListener('otp-resend', sendCode);
document.querySelector('#back').addEventListener('click', () => open(start, start.elements.userId));
showAccount();

/** nodemailer, which is no dependency of otpd: whoever sends e-mail installs it. */

/** The members that are used. */
export type Nodemailer = Readonly<{ createTransport: (options: object) => Transport }>;

/** Connections to one server. */
export type Transport = Readonly<{
  /** `signal` takes the message back, or breaks off the connection that it is being sent on. */
  sendMail: (mail: Readonly<{ signal: AbortSignal }>) => Promise<unknown>;
  /** Breaks off what is under way when forced. */
  close: (options: Readonly<{ force: boolean }>) => void;
}>;

/** In a name of its own, because the compiler must not look for it. */
const PACKAGE: string = 'nodemailer';

/**
 * Loads it from the packages that are installed.
 *
 * @param load for tests
 * @throws Error with what to do when it is not there
 */
export async function loadNodemailer(
  load: () => Promise<Nodemailer> = () => import(PACKAGE),
): Promise<Nodemailer> {
  try {
    return await load();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== 'ERR_MODULE_NOT_FOUND' || !message.includes("'nodemailer'")) throw error;
    throw new Error('DELIVERY names email, which needs nodemailer: npm i nodemailer');
  }
}

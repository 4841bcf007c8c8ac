import { type Device, openDevice } from './choose-device.ts';
import type { Device as Gpu } from './device.ts';

/** The device that a model is to compute on, opened while its files are still looked at. */
export class OpeningDevice {
  readonly #device: Device;
  #opening: Promise<Gpu | undefined> | undefined;
  #isTaken = false;

  /** @param device checked with `checkDevice` */
  constructor(device: Device) {
    this.#device = device;
  }

  /** Begins, unless that was done. What goes wrong is for `take` to tell. */
  start(): void {
    if (this.#opening) return;
    this.#opening = openDevice(this.#device);
    this.#opening.catch(() => {});
  }

  /** Whether the model is to compute on the CPU; `auto` is opened to know it. @throws as `openDevice` */
  async isCpu(): Promise<boolean> {
    if (this.#device !== 'auto') return this.#device === 'cpu';
    this.start();
    return (await this.#opening) === undefined;
  }

  /** The device, which is the caller's to dispose of from then on. @throws as `openDevice` */
  async take(): Promise<Gpu | undefined> {
    this.start();
    this.#isTaken = true;
    return this.#opening;
  }

  /** Gives it up unless it was taken. */
  async release(): Promise<void> {
    if (this.#isTaken) return;
    const gpu = await this.#opening?.catch(() => undefined);
    await gpu?.dispose();
  }
}

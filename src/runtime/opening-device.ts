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

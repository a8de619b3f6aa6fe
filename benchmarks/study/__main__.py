"""The comparison study, a row at a time.

    python -m benchmarks.study ROW [--minutes 20] [--threads 1] [--data data] [--out runs/study]
    python -m benchmarks.study table [--out runs/study]

A row is trained on CelebA for so many minutes (what it trained before is kept), reconstructs and
samples 1,000 faces, and is measured against 1,000 validation pictures; `table` prints the rows so
far and draws sheet.jpg beside them. pythae's rows run in an environment of their own: `make peers`.
"""

import argparse
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.study.plain_vae import train_plain_vae
from benchmarks.study.results import Pictures, Pixels, Result, measure, sheet, table, write_result
from benchmarks.study.rows import PEERS, ROWS
from benchmarks.study.training import train_row
from facegen.training.data import load_faces
from facegen.training.latents import decode_latents, encode_pictures
from facegen.training.prior import fit_mixture

COUNT = 1_000
LATENT_SIZE = 128
SEED = 20_140_501
PYTHAE = Path(".venv-pythae/bin/python")


Made = tuple[Result, Pictures]


def noise() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The draws that all rows share."""
    random = np.random.default_rng(SEED)
    normal = random.standard_normal((COUNT, LATENT_SIZE), dtype=np.float32)
    return normal, random.random(COUNT, dtype=np.float32)


def ours(name: str, options: argparse.Namespace, real: Pixels) -> Made:
    """Train and sample a row of ours."""
    row = ROWS[name]
    runs = train_row(
        row,
        options.out / name,
        data=options.data.resolve(),
        minutes=options.minutes,
        threads=options.threads,
    )
    run, (normal, uniform) = runs[-1], noise()
    made = Pictures(
        decode_latents(run.model, encode_pictures(run.model, real)),
        {
            "mixture": decode_latents(run.model, run.prior.sample(normal, uniform)),
            "normal": decode_latents(run.model, normal),
        },
    )
    epochs = sum(float(stage.facts["epochs"]) for stage in runs)
    metrics = measure(real, made)
    return Result(name, row.title, run.seconds / 60, epochs, options.threads, metrics), made


def plain(name: str, options: argparse.Namespace, real: Pixels, train: Pixels) -> Made:
    """Train and sample the plain VAE; its mixture is fitted as ours are."""
    torch.set_num_threads(options.threads)
    trained = train_plain_vae(train, minutes=options.minutes)
    model, (normal, uniform) = trained.model, noise()
    prior = fit_mixture(model.encode(train), 10)
    made = Pictures(
        model.decode(model.encode(real)),
        {"mixture": model.decode(prior.sample(normal, uniform)), "normal": model.decode(normal)},
    )
    metrics = measure(real, made)
    minutes = trained.seconds / 60
    return Result(name, PEERS[name], minutes, trained.epochs, options.threads, metrics), made


def pythae(name: str, options: argparse.Namespace, real: Pixels, train: Pixels) -> Made:
    """Train and sample a row of pythae's in its own environment."""
    options.out.mkdir(parents=True, exist_ok=True)
    pictures, out = options.out / "pictures.npz", options.out / f"{name}.npz"
    np.savez(pictures, train=train, validation=real)
    command = [PYTHAE, Path(__file__).with_name("pythae_peer.py"), pictures, out]
    command += ["--model", name.removeprefix("pythae-")]
    command += ["--minutes", str(options.minutes), "--threads", str(options.threads)]
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)
    with np.load(out) as file:
        made = Pictures(
            file["reconstruction"], {"mixture": file["mixture"], "normal": file["normal"]}
        )
        minutes, epochs = float(file["seconds"]) / 60, float(file["epochs"])
    return Result(name, PEERS[name], minutes, epochs, options.threads, measure(real, made)), made


def main() -> None:
    """Train and measure a row, or print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("row", choices=[*ROWS, *PEERS, "table"])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    options = parser.parse_args()
    if options.row == "table":
        sys.stdout.write(table(options.out))
        sheet(options.out).save(options.out / "sheet.jpg", quality=90)
        return
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    faces = load_faces("celeba", options.data, size_px=64, channels=3)
    real = np.asarray(faces.pixels["validation"][:COUNT])
    train = np.asarray(faces.pixels["train"])
    if options.row in ROWS:
        result, made = ours(options.row, options, real)
    elif options.row == "pytorch-vae":
        result, made = plain(options.row, options, real, train)
    else:
        result, made = pythae(options.row, options, real, train)
    write_result(result, made, options.out)
    sys.stdout.write(table(options.out))


if __name__ == "__main__":
    main()

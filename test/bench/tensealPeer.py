"""Encrypted evaluation of a logistic regression with TenSEAL, for comparison with this project's row layout.

Reads {"weights": [...], "intercept": b, "vectors": [[...], ...]} on stdin, prints one JSON object on stdout. The steps are
those of TenSEAL's tutorial "Training and Evaluation of Logistic Regression on Encrypted Data": one CKKS vector a sample,
`enc_x.dot(weights) + bias` with plain weights, rotations with Galois keys. One thread.
Limit: a reply of TenSEAL does not hide the model. It carries neither a fresh encryption of zero nor a flood, so whoever
decrypts it and knows the input can learn more of the weights than the score; its times are those of multiplying only.
"""

import json
import sys
import time

import tenseal as ts

# 128-bit security at both. The first is the tutorial's for evaluation, the second that of TenSEAL's introduction to CKKS.
PARAMETERS = [
    {"name": "N = 4096, 40-20-40", "degree": 4096, "bits": [40, 20, 40], "scale": 2**20},
    {"name": "N = 8192, 60-40-40-60", "degree": 8192, "bits": [60, 40, 40, 60], "scale": 2**40},
]


def median(times):
    return sorted(times)[len(times) // 2]


def measure(parameters, task):
    context = ts.context(
        ts.SCHEME_TYPE.CKKS,
        parameters["degree"],
        coeff_mod_bit_sizes=parameters["bits"],
        n_threads=1,
    )
    context.global_scale = parameters["scale"]
    context.generate_galois_keys()
    public = context.serialize(save_secret_key=False, save_galois_keys=True, save_relin_keys=False)
    server = ts.context_from(public, n_threads=1)
    weights, intercept = task["weights"], task["intercept"]
    times = {"encrypt": [], "server": [], "decrypt": []}
    up = down = 0
    worst = 0.0
    for vector in task["vectors"]:
        start = time.perf_counter()
        upload = ts.ckks_vector(context, vector).serialize()
        encrypted = time.perf_counter()
        reply = (ts.ckks_vector_from(server, upload).dot(weights) + intercept).serialize()
        scored = time.perf_counter()
        logit = ts.ckks_vector_from(context, reply).decrypt()[0]
        done = time.perf_counter()
        times["encrypt"].append(encrypted - start)
        times["server"].append(scored - encrypted)
        times["decrypt"].append(done - scored)
        exact = intercept + sum(w * x for w, x in zip(weights, vector))
        worst = max(worst, abs(logit - exact))
        up, down = max(up, len(upload)), max(down, len(reply))
    return {
        "name": parameters["name"],
        "encryptMs": 1000 * median(times["encrypt"]),
        "serverMs": 1000 * median(times["server"]),
        "decryptMs": 1000 * median(times["decrypt"]),
        "up": up,
        "down": down,
        "publicContext": len(public),
        "worstError": worst,
    }


def main():
    task = json.load(sys.stdin)
    results = [measure(parameters, task) for parameters in PARAMETERS]
    json.dump({"version": ts.__version__, "results": results}, sys.stdout)


if __name__ == "__main__":
    main()

"""The program bench_gpu, asked line by line."""

import json
import subprocess


class Harrier:
    def __init__(self, build):
        self.process = subprocess.Popen(
            [build / "bench" / "bench_gpu"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.device = json.loads(self.process.stdout.readline())

    def ask(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

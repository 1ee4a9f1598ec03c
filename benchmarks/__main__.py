"""`make bench`: the CPU measurements, a few minutes."""

from benchmarks import train_speed

if __name__ == "__main__":
    train_speed.main(["--model", "resnext26ts", "--size", "128", "--batch", "32"])

"""`make bench`: the CPU measurements, a few minutes."""

from benchmarks import classify_speed, train_speed

if __name__ == "__main__":
    train_speed.main(["--model", "resnext26ts", "--size", "128", "--batch", "32"])
    classify_speed.main([])

"""The sample project: real photographs, a seeded landing made from them with known truth, and simulated annotators."""

"""One script per rival, each what its own guide would have a careful user write; run as a process of its own."""

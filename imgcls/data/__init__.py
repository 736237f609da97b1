"""From what the user has to batches: source -> SampleTable -> split -> transform -> Batch."""

"""What finetune and its relatives share: labelled runs, the model for a task, the cheap baselines, the learning curve."""

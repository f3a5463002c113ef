"""What an ensemble of networks predicts, and how many members it needs."""

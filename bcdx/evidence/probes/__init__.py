"""What is known of samples but the lesion in; how far shortcuts come, out."""

"""Write a trained model in forms that other programs run, and prove that they answer alike."""

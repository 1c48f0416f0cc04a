"""Orders of a brand's own checkout, which its shop tells us of: who sold them, what that costs, what came back."""

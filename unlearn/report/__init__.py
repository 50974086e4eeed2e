"""Pictures of a leaderboard, for people who look before they read."""

"""Quality of videos by features of an ensemble of frozen networks."""

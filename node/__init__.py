"""The node program: keeps an agency's detections and answers what its policy permits."""

"""Objects and faces: detectors, the arithmetic of their boxes, and the stage that writes them."""

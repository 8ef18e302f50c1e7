"""Labelled boxes in their publishers' layouts, read into one typed form.

| kind           | what `path` is                                     | boxes refer to the picture as it is           |
|----------------|----------------------------------------------------|-----------------------------------------------|
| `coco`         | COCO's JSON; pictures in images/ beside it         | upright, unless its size says: stored          |
| `voc`          | a folder with Annotations, JPEGImages, ImageSets   | stored, unless its size says: upright          |
| `yolo`         | a folder or its data.yaml; a text per picture      | upright, as Ultralytics reads it              |
| `open-images`  | a folder with ...annotations-bbox.csv, or that     | stored                                        |
| `label-studio` | a project's JSON export; pictures in images/       | upright, unless its size says: stored          |
| `photo-art-50` | its folder, of a folder per class and gt_bb        | stored                                        |
| `store`        | a store: what artray found, where it found it      | upright                                       |
| `csv`          | a table of your own                                | upright, unless its size says: stored          |

A picture is stored turned or mirrored where its EXIF orientation is not 1. Where a published size fits only one of the
two, that one is meant. Boxes come out in pixels of the upright picture, the lower right corner exclusive.
"""

# make demo-cv   the face study on drawn faces: 16 models, ten methods, two attacks, table and pictures in models/cv
.PHONY: demo-cv bench-cv

demo-cv: $(READY)
	$(BIN)/python cv/run.py

bench-cv: $(READY)
	$(BIN)/python benchmarks/cv_shadow.py

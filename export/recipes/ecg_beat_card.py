"""The beat classifier's model card: what a reader must know before he trusts it.

Owns the words; every number comes from the figures. They stand in full, as JSON, at its end.
"""

from __future__ import annotations

import json
from typing import Any

INTENDED_USE = (
    "Research and development: labels single beats of one ECG lead (MLII-like, 250 Hz) as N, S, V, "
    "F after AAMI EC57, or withholds. Not a medical device; not for diagnosis or monitoring."
)
CITATION = (
    "Moody GB, Mark RG. The impact of the MIT-BIH Arrhythmia Database. IEEE Eng Med Biol "
    "20(3):45-50 (2001). Goldberger AL et al. PhysioBank, PhysioToolkit, and PhysioNet. "
    "Circulation 101(23):e215-e220 (2000)."
)
LICENCE = "Apache-2.0; trained on, and golden vectors from, data under ODC-BY 1.0"

_TEXT = """# ecg-beat: beats of one ECG lead to AAMI classes

{intended_use}

## What goes in and comes out
One lead at 250 Hz in mV, filtered causally (0.5 to 40 Hz, notches at 50 and 60 Hz). Each R peak
gives a window of 0.4 s to both sides (`beat`: the beat, the patient's usual beat, and the usual
deviation from it) and nine features of the intervals before it (`rr`). Out come logits for N, S, V,
F, Q. Q, and any answer under a probability of {min_probability}, is withheld.

## Data
MIT-BIH Arrhythmia Database, lead MLII chosen by name, resampled from 360 to 250 Hz. Trained on the
{trained} records of DS1 (de Chazal 2004) without 208, which the demo plays: {records}.
Ventricular flutter (record 207, '[' to ']', 1 s around it) is left out. Training leaves out
supraventricular beats conducted so aberrantly that they resemble ventricular ones; evaluation keeps
them. Artefact windows are added as Q. A false trigger is class Q.

## Figures: leave-records-out
{folds} folds of whole records; each fold was judged by a model that was not trained on its records,
at an operating point (how much the logits of S and V are raised) chosen on the predictions for the
other folds. Features, network and thresholds were developed while looking at these figures, so they
flatter: only records never used, such as DS2, can tell the truth. A beat that the trigger missed,
or that was withheld, counts as missed. Every other class counts against positive predictivity. 95 %
intervals by bootstrap over records (patients).

| class | beats | sensitivity | positive predictivity |
|---|---|---|---|
{rows}

Columns are answers:

| true | N | S | V | F | Q | low confidence | missed by trigger |
|---|---|---|---|---|---|---|---|
{confusion}

The intervals are wide: 21 patients, and a few of them hold most of the S, V and F beats. F is too
rare without record 208 to be learned ({f_beats} beats): do not rely on it. Of synthetic artefact
windows on held-out records, made as those in training, {artefact_share:.0%} were withheld as Q or
for low confidence; of real Q beats and false triggers almost none were (see the table): they
look like beats. Signal quality, which is judged before this model, is the first defence.

For comparison, de Chazal, O'Dwyer and Reilly (IEEE Trans. Biomed. Eng. 51:1196, 2004) reached V:
Se 77.7 %, +P 81.9 %; S: Se 75.9 %, +P 38.5 %, with two leads, on DS2. **These are not comparable
sets:** the figures here are cross-validated on DS1, and DS2 was not used.

## Precisions
The network is four members side by side, each a group of every layer, and answers with their mean.
What FP16 and INT8 of it proved against FP32, on the beats of 14 records, is in the manifest: `medge
export inspect ecg-beat`. The figures above are FP32's.

## Probabilities
Temperature {temperature}, fitted on the pooled out-of-fold logits. On those: expected calibration
error {ece}, Brier score {brier}, accuracy {accuracy}. The conformal quantile {quantile} gives sets
that hold the true class for {coverage:.0%} of such beats, over all classes together (far less for
rare ones); it too is from the out-of-fold logits, so no data set apart confirms it, and it assumes
patients like these.

## Limits
- One lead, adults, Holter recordings of the 1970s. Paced beats were never seen.
- Atrial fibrillation makes normal beats look premature: most false S answers come from it (record
  203). Aberrant S beats are called V (records 201, 207).
- The first beats of a patient have no usual beat yet; after a gap the first has no interval.
- One record differs from the next more than any interval here shows. Validate on your own patients.

## Licence and citation
{licence}. {citation}
Golden vectors are windows of these records.

## Figures in full
```json
{json}
```
"""


def write(figures: dict[str, Any], details: dict[str, Any]) -> str:
    """The card. `details`: what was calibrated, and how, by the names used in the text."""
    calibration = figures["calibration"]
    return _TEXT.format(
        intended_use=INTENDED_USE,
        trained=len(figures["records"]),
        records=", ".join(figures["records"]),
        rows="\n".join(_row(name, figures) for name in figures["classes"]),
        confusion="\n".join(_confusion_row(name, figures) for name in figures["classes"]),
        f_beats=sum(figures["confusion"]["F"]) + figures["missed_by_trigger"]["F"],
        ece=calibration["expected_calibration_error"],
        brier=calibration["brier_score"],
        accuracy=calibration["accuracy"],
        licence=LICENCE,
        citation=CITATION,
        json=json.dumps({**figures, **details}, indent=1),
        **details,
    )


def _row(name: str, figures: dict[str, Any]) -> str:
    rates = figures["classes"][name]
    beats = sum(figures["confusion"][name]) + figures["missed_by_trigger"][name]
    return f"| {name} | {beats} | " + " | ".join(_rate(r) for r in rates.values()) + " |"


def _rate(rate: dict[str, Any]) -> str:
    low, high = rate["interval"]
    return f"{100 * rate['value']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _confusion_row(name: str, figures: dict[str, Any]) -> str:
    counts = [*figures["confusion"][name], figures["missed_by_trigger"][name]]
    return f"| {name} | " + " | ".join(str(n) for n in counts) + " |"

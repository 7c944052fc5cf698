"""Studies of `basinet reproduce`: published claims, measured again in a few minutes."""

from basinet.analysis.studies.flatness_tradeoff.tradeoff import flatness_tradeoff
from basinet.analysis.studies.galore_counterexample import galore_counterexample
from basinet.analysis.studies.galore_pretraining import galore_pretraining
from basinet.analysis.studies.heavy_tails import heavy_tails
from basinet.analysis.studies.lozo_finetuning import lozo_finetuning
from basinet.analysis.studies.sequences.long_sequences import s3attention
from basinet.analysis.studies.study import TRAININGS, Check, Findings, Progress, Study, check_folder, write_findings
from basinet.analysis.studies.topology_time.topology_time import topology_time
from basinet.analysis.studies.vision.combined_extractors import pretrained_ensemble
from basinet.analysis.studies.vision.enlarged_images import super_resolution
from basinet.analysis.studies.vision.pretrained_quality import quality_pretraining
from basinet.analysis.studies.vision.rated_videos import video_quality
from basinet.analysis.studies.vision.told_procedures import video_language
from basinet.analysis.studies.zeroth_order import zeroth_order

__all__ = ["STUDIES", "TRAININGS", "Check", "Findings", "Progress", "Study", "check_folder", "write_findings"]

STUDIES: dict[str, Study] = {
    "flatness-tradeoff": flatness_tradeoff,
    "galore-counterexample": galore_counterexample,
    "galore-pretraining": galore_pretraining,
    "heavy-tails": heavy_tails,
    "lozo-finetuning": lozo_finetuning,
    "pretrained-ensemble": pretrained_ensemble,
    "s3attention": s3attention,
    "quality-pretraining": quality_pretraining,
    "super-resolution": super_resolution,
    "topology-time": topology_time,
    "video-language": video_language,
    "video-quality": video_quality,
    "zeroth-order": zeroth_order,
}

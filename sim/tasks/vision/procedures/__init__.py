"""Videos of procedures and what is told of them: narrations of clips, texts of phases, abstracts of videos."""

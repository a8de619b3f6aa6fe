from facegen.export.card_quality import quality_section

METRICS = {
    "psnr_db": 21.584,
    "sharpness_mixture": 0.7331,
    "frechet_floor": 12.76,
    "frechet_mixture": 30.264,
    "frechet_mixture_lite2": 25.32,
    "frechet_mixture_temperature_0.7": 34.81,
    "frechet_smiling": 31.0,
    "frechet_mixture_to_pca_gaussian": 0.3561,
    "precision_mixture": 0.703,
}


def section() -> list[str]:
    text = quality_section(METRICS, protocol="1000 pictures.", command="facegen evaluate x")
    return text.splitlines()


def test_pictures_have_a_row_each_and_measures_a_column() -> None:
    lines = section()
    assert "| pictures | Fréchet | Fréchet, Lite2 | precision | sharpness |" in lines
    assert "| drawn from the mixture | 30.3 | 25.3 | 0.703 | 0.733 |" in lines
    assert "| drawn from the mixture, temperature 0.7 | 34.8 | – | – | – |" in lines
    assert "| drawn from smiling | 31 | – | – | – |" in lines


def test_numbers_of_no_pictures_keep_their_names() -> None:
    lines = section()
    assert "| psnr_db | 21.58 |" in lines
    assert "| frechet_mixture_to_pca_gaussian | 0.3561 |" in lines


def test_every_number_is_told_once() -> None:
    values = [
        cell
        for line in section()
        if line.startswith("| ") and "---" not in line
        for cell in line.strip("| ").split(" | ")[1:]
        if cell[0].isdigit()
    ]
    assert len(values) == len(METRICS)


def test_run_that_was_not_measured_names_the_command() -> None:
    text = quality_section({}, protocol="", command="facegen evaluate mine")
    assert "`facegen evaluate mine`" in text

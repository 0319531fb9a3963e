"""TMMLU+'s 66 subjects in 17 categories in 4 groups, because each way of averaging needs the map.

Facts from iKala/ievals, `ievals/subject.tsv` and `settings.py` (the same map as lm-evaluation-harness's `tmmluplus`).
"""

CATEGORIES = {
    "physics": "physics secondary_physics",
    "chemistry": "organic_chemistry advance_chemistry junior_chemistry",
    "biology": "pharmacy basic_medical_science junior_science_exam tve_natural_sciences",
    "computer science": "computer_science",
    "math": "junior_math_exam tve_mathematics engineering_math",
    "engineering": "statistics_and_machine_learning",
    "philosophy": "jce_humanities",
    "law": "general_principles_of_law anti_money_laundering introduction_to_law taxation trust_practice "
    "administrative_law",
    "politics": "national_protection politic_science",
    "culture": "ttqav2 chinese_language_and_literature junior_chinese_exam tve_chinese_language "
    "three_principles_of_people taiwanese_hokkien",
    "economics": "economics macroeconomics",
    "geography": "geography_of_taiwan",
    "psychology": "clinical_psychology human_behavior educational_psychology "
    "occupational_therapy_for_psychological_disorders",
    "education": "education_(profession_level) physical_education education",
    "other": "technical culinary_skills mechanical logic_reasoning real_estate marketing_management "
    "business_management agriculture official_document_management fire_science optometry insurance_studies "
    "nautical_science tve_design junior_social_studies music",
    "business": "finance_banking financial_analysis management_accounting accounting auditing trade",
    "health": "dentistry traditional_chinese_medicine_clinical_medicine veterinary_pathology pharmacology "
    "veterinary_pharmacology",
}
GROUPS = {
    "STEM": ("physics", "chemistry", "biology", "computer science", "math", "engineering"),
    "humanities": ("philosophy", "law"),
    "social sciences": ("politics", "culture", "economics", "geography", "psychology", "education"),
    "other": ("other", "business", "health"),
}
SUBJECT_CATEGORY = {subject: category for category, names in CATEGORIES.items() for subject in names.split()}
CATEGORY_GROUP = {category: group for group, names in GROUPS.items() for category in names}
